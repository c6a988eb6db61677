"""Class names of the OGB datasets where their own mapping file is not among the upstream files."""

# OGB's mapping/labelidx2arxivcategeory.csv.gz, which TAPE's papers of 2023 are labelled by.
ARXIV = tuple(
    "cs." + name
    for name in (
        *("NA", "MM", "LO", "CY", "CR", "DC", "HC", "CE", "NI", "CC", "AI", "MA", "GL", "NE", "SC", "AR", "CV", "GR"),
        *("ET", "SY", "CG", "OH", "PL", "SE", "LG", "SD", "SI", "RO", "IT", "PF", "CL", "IR", "MS", "FL", "DS", "OS"),
        *("GT", "DB", "DL", "DM"),
    )
)

# OGB's mapping/labelidx2productcategory.csv.gz. Class 24 has no name there.
PRODUCTS = (
    "Home & Kitchen",
    "Health & Personal Care",
    "Beauty",
    "Sports & Outdoors",
    "Books",
    "Patio, Lawn & Garden",
    "Toys & Games",
    "CDs & Vinyl",
    "Cell Phones & Accessories",
    "Grocery & Gourmet Food",
    "Arts, Crafts & Sewing",
    "Clothing, Shoes & Jewelry",
    "Electronics",
    "Movies & TV",
    "Software",
    "Video Games",
    "Automotive",
    "Pet Supplies",
    "Office Products",
    "Industrial & Scientific",
    "Musical Instruments",
    "Tools & Home Improvement",
    "Magazine Subscriptions",
    "Baby Products",
    "class 24",
    "Appliances",
    "Kitchen & Dining",
    "Collectibles & Fine Art",
    "All Beauty",
    "Luxury Beauty",
    "Amazon Fashion",
    "Computers",
    "All Electronics",
    "Purchase Circles",
    "MP3 Players & Accessories",
    "Gift Cards",
    "Office & School Supplies",
    "Home Improvement",
    "Camera & Photo",
    "GPS & Navigation",
    "Digital Music",
    "Car Electronics",
    "Baby",
    "Kindle Store",
    "Buy a Kindle",
    "Furniture & D&#233;cor",
    "#508510",
)
