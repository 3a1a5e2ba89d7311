"""What authors and learners start from: stubs made from solutions, and skeletons of lessons and exercises."""
