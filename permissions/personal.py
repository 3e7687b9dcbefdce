"""The categories of personal data that fields are marked with."""

CATEGORIES = {
    "account": "How someone signs in, what they may do and what they did here.",
    "communication": "What somebody wrote.",
    "contact": "How to reach somebody: e-mail address, telephone, postal address.",
    "identity": "Who somebody is: name, position, identifiers.",
}
"""Every category and what it takes in."""
