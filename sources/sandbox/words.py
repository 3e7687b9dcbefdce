"""Invented names and phrases. Domains end in .example; British and US phone numbers are from reserved ranges."""

from __future__ import annotations

COMPANY_STEMS: tuple[tuple[str, str], ...] = (
    ("Alder", "alder"), ("Brightwell", "brightwell"), ("Søndergård", "sondergard"), ("Kestrel", "kestrel"),
    ("Château Bleu", "chateau-bleu"), ("Tamarind", "tamarind"), ("Žižkov", "zizkov"),
    ("Ironbridge", "ironbridge"),
    ("東雲", "shinonome"), ("Larkspur", "larkspur"), ("Ñandú", "nandu"), ("Wolds", "wolds"),
    ("Öresund", "oresund"), ("Cobalt", "cobalt"), ("Fenwick", "fenwick"), ("Łuczak", "luczak"),
    ("Meridian", "meridian"), ("Oakhanger", "oakhanger"), ("Zoë's", "zoes"), ("Pemberton", "pemberton"),
    ("São Tomé", "sao-tome"), ("Quayside", "quayside"), ("Rookery", "rookery"), ("Straße 9", "strasse-9"),
    ("Thornbury", "thornbury"), ("Umbra", "umbra"), ("الخليج", "alkhaleej"), ("Winterbourne", "winterbourne"),
    ("Yarrow", "yarrow"), ("Zephyr", "zephyr"), ("Ashdown", "ashdown"), ("Bellweather", "bellweather"),
    ("Crête d'Or", "crete-dor"), ("Dunmore", "dunmore"), ("Elstree", "elstree"), ("Foxglove", "foxglove"),
    ("Gullane", "gullane"), ("Hallmark", "hallmark"), ("İzmirli", "izmirli"), ("Juniper", "juniper"),
)  # fmt: skip

COMPANY_TRADES: tuple[tuple[str, str], ...] = (
    ("Logistics", "Transport"), ("Instruments", "Manufacturing"), ("Foods", "Food and drink"),
    ("Textiles", "Manufacturing"), ("Analytics", "Software"), ("Marine", "Transport"), ("Print", "Media"),
    ("Dental", "Health"), ("Timber", "Construction"), ("Energy", "Energy"), ("Studios", "Media"),
    ("Packaging", "Manufacturing"), ("Hotels", "Hospitality"), ("Robotics", "Manufacturing"),
    ("Legal", "Professional services"), ("Breweries", "Food and drink"), ("Ceramics", "Manufacturing"),
    ("Clinics", "Health"), ("Freight", "Transport"), ("Gardens", "Retail"), ("Lighting", "Retail"),
    ("Optics", "Health"), ("Payments", "Financial services"), ("Rail", "Transport"), ("Seeds", "Agriculture"),
)  # fmt: skip

# country, city, suffix in the CRM, suffix in the ledger, currency, region, phone prefix, postcode
PLACES: tuple[tuple[str, str, str, str, str, str, str, str], ...] = (
    ("GB", "Bristol", "Ltd", "Limited", "GBP", "emea", "+44 117 496 0", "BS1 4QA"),
    ("GB", "Leeds", "Ltd", "Limited", "GBP", "emea", "+44 113 496 0", "LS1 5AB"),
    ("GB", "London", "plc", "PLC", "GBP", "emea", "+44 20 7946 0", "EC2A 3AR"),
    ("GB", "Glasgow", "Ltd", "Ltd.", "GBP", "emea", "+44 141 496 0", "G2 1DY"),
    ("DE", "Köln", "GmbH", "GmbH", "EUR", "emea", "+49 221 9999 0", "50667"),
    ("FR", "Besançon", "SARL", "S.A.R.L.", "EUR", "emea", "+33 1 99 00 0", "25000"),
    ("IE", "Galway", "Ltd", "Limited", "EUR", "emea", "+353 20 911 0", "H91 E2K3"),
    ("PL", "Łódź", "Sp. z o.o.", "SP Z OO", "EUR", "emea", "+48 42 000 0", "90-001"),
    ("US", "Portland", "Inc.", "Incorporated", "USD", "amer", "+1 503 555 0", "97201"),
    ("US", "Austin", "LLC", "L.L.C.", "USD", "amer", "+1 512 555 0", "78701"),
    ("JP", "大阪", "KK", "Kabushiki Kaisha", "JPY", "apac", "+81 6 0000 0", "530-0001"),
    ("KW", "Kuwait City", "W.L.L.", "WLL", "KWD", "emea", "+965 2220 0", "13001"),
)  # fmt: skip

PLACE_WEIGHTS = (22, 14, 14, 8, 10, 7, 6, 5, 10, 6, 4, 3)

STREETS = (
    "Mill Lane", "Station Road", "Quai du Port", "Lindenstraße", "Harbour Way", "Elm Street", "Rue Haute",
)  # fmt: skip

FIRST_NAMES = (
    "Amelia", "Björn", "Chloé", "Dmitri", "Elif", "Fatima", "Grace", "Hiroshi", "Íñigo", "Jürgen", "Kwame",
    "Łucja", "Mei", "Noor", "Oisín", "Priya", "Quentin", "Renée", "Søren", "Tomáš", "Uma", "Valérie", "Wren",
    "Xavier", "Yūki", "Zsófia", "山田",
)  # fmt: skip

LAST_NAMES = (
    "Adeyemi", "Bennett", "Çelik", "Dvořák", "Eriksson", "Fernández", "Głowacki", "Hughes", "Ibrahim",
    "Jónsdóttir", "Kowalski", "Lefèvre", "Müller", "Nakamura", "O'Brien", "Patel", "Quigley", "Rossi",
    "Sørensen", "Tanaka", "Ünal", "Vasquez", "Wright", "Xu", "Yılmaz", "Zhang", "van der Berg",
)  # fmt: skip

JOB_TITLES = (
    "Finance Director", "Buyer", "Operations Manager", "IT Lead", "Office Manager", "Managing Director",
)  # fmt: skip

# item code, description, account code, price from and to in a currency of middling worth
PRODUCTS: tuple[tuple[str | None, str, str, int, int], ...] = (
    ("SUP-GOLD", "Support plan, gold, one month", "200", 400, 900),
    ("SUP-STD", "Support plan, standard, one month", "200", 120, 300),
    ("LIC-SEAT", "Licence, per seat", "201", 15, 60),
    ("HW-SENSOR", "Temperature sensor T4", "202", 35, 140),
    ("HW-GATE", "Radio gateway, indoor", "202", 210, 480),
    ("INST-DAY", "Installation, per day", "203", 450, 780),
    ("TRAIN", "Training on site, half a day", "203", 300, 520),
    (None, "Carriage and packing", "425", 8, 45),
    (None, "Calibration to ISO 17025 – certificate included", "203", 60, 190),
)  # fmt: skip

TICKET_SUBJECTS = (
    "Sensor reads 85 °C at start-up", "Cannot sign in after password change",
    "Invoice shows the wrong VAT number", "Gateway offline since last night", "Please add a user",
    "Where is our order?", "Calibration certificate missing", "API answers 500 on export",
    "Rapport mensuel illisible – accents manquants", "Change of delivery address",
    "Question about the renewal", "Replacement for a damaged unit", "Dashboard is slow", "Two-factor reset",
)  # fmt: skip

CUSTOMER_LINES = (
    "It started on Monday and nobody has changed anything on our side.",
    "Could you look at it this week, please?", "We have tried turning it off and on again.",
    "The screenshot shows what we see.", "Merci d'avance !", "This is holding up our stock take.",
    "Thank you, that worked for two of the three devices.",
)  # fmt: skip

AGENT_LINES = (
    "Thank you for getting in touch. I am looking into it.", "Could you send us the serial number, please?",
    "A replacement left our warehouse today.", "We have reset the account; please try once more.",
    "The fix is in this evening's release.", "I have corrected it and sent you a new copy.",
)  # fmt: skip

INTERNAL_LINES = (
    "customer is behind with payments, check with accounts before shipping.",
    "known fault of batch 7, do not say so yet.",
    "escalated to engineering, margin on this account is thin.", "asked sales whether this one will renew.",
)  # fmt: skip

TICKET_TAGS = (
    "billing", "hardware", "login", "api", "vip", "delivery", "training", "overheating",
)  # fmt: skip

DOCUMENT_TAGS = (
    "2024", "2025", "2026", "signed", "draft", "iso", "safety", "project-orion",
)  # fmt: skip

# kind, file name stems, content types to choose from
DOCUMENT_KINDS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("contracts", ("Master agreement", "Renewal", "NDA", "Data processing addendum"), ("application/pdf",)),
    ("certificates", ("Calibration T4", "ISO 9001", "Conformité CE"), ("application/pdf",)),
    ("guides", ("Installation guide", "Quick start", "Sicherheitshinweise für Geräte"),
     ("application/pdf", "text/markdown")),
    ("reports", ("Monthly report", "Uptime", "Sensor readings"), ("text/csv", "application/pdf")),
    ("invoices", ("Invoice copy", "Pro forma"), ("application/pdf",)),
    ("statements", ("Statement of account", "Statement + reminders"), ("application/pdf", "text/plain")),
)  # fmt: skip

EXTENSIONS = {"application/pdf": "pdf", "text/markdown": "md", "text/csv": "csv", "text/plain": "txt"}

AGENT_NAMES = (
    "Imogen Clarke", "Rafael Ortiz", "Siobhán Kelly", "Tariq Aziz", "Ulrike Weiß", "Victor Hallam",
    "Wanjiru Maina", "Yolanda Pike",
)  # fmt: skip

ARTICLE_SECTIONS = (
    "Getting started", "Billing", "Devices", "Security",
)  # fmt: skip

ARTICLE_TOPICS: tuple[tuple[str, str], ...] = (
    ("Install a radio gateway", "Place it two metres up, away from metal, and connect the blue cable first."),
    ("Read your invoice", "The due date is printed at the top right; the VAT summary is on the last page."),
    ("Pay by bank transfer", "Quote the invoice number as the reference so that we can match your payment."),
    ("Calibrate a T4 sensor", "Leave it at a known temperature for an hour, then press and hold the button."),
    ("Reset two-factor sign-in", "An owner of your organisation can reset it under People."),
    ("Export readings as CSV", "Choose a period of at most 90 days; longer ones are sent by e-mail."),
    ("Replace a battery", "Use a CR2477 cell; others fit but last a week."),
    ("Add a colleague", "Owners may invite; the invitation is valid for seven days."),
    ("What the lights mean", "Green is good, amber is updating, red needs you."),
)  # fmt: skip
