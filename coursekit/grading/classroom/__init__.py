"""Grading a class: a folder of submissions, many processes or machines, a gradebook, and the students' bundle."""
