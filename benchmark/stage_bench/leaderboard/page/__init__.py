"""The web page of a report: one file that needs no other, and what other pages of the project share with it."""
