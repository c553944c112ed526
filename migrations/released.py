"""What runs out there while this version is brought in: the last release. Making a release moves both lines.

The migrations after `REVISION` may only widen what its code reads and writes (decision 0013); a test looks at each.
There is no release yet: this is the last state of the code before log-in of people.
"""

REVISION = "0011"
COMMIT = "f48bf82ef0209fed780bed08c80bd092d14f4522"
