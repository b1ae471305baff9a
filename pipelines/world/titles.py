"""Words that make items readable: twenty categories of five kinds each, and what a name is made of."""

import numpy as np

CATEGORIES: dict[str, tuple[str, ...]] = {
    "Books": ("Crime Novel", "Travel Guide", "Cookbook", "Biography", "Picture Book"),
    "Kitchen": ("Saucepan", "Chef's Knife", "Mixing Bowl", "Coffee Maker", "Cutting Board"),
    "Garden": ("Pruning Shears", "Planter", "Watering Can", "Hammock", "Bird Feeder"),
    "Shoes": ("Running Shoes", "Sandals", "Boots", "Loafers", "Slippers"),
    "Clothing": ("Shirt", "Raincoat", "Cardigan", "Jeans", "Scarf"),
    "Toys": ("Puzzle", "Building Set", "Kite", "Plush Bear", "Marble Run"),
    "Games": ("Board Game", "Card Game", "Dice Game", "Chess Set", "Party Game"),
    "Music": ("Ukulele", "Keyboard", "Drum Pad", "Microphone", "Record"),
    "Sport": ("Yoga Mat", "Dumbbells", "Jump Rope", "Tennis Racket", "Football"),
    "Camping": ("Tent", "Sleeping Bag", "Lantern", "Camp Stove", "Backpack"),
    "Cycling": ("Helmet", "Bike Light", "Pannier", "Bike Lock", "Saddle"),
    "Audio": ("Headphones", "Speaker", "Earbuds", "Turntable", "Radio"),
    "Computing": ("Keypad", "Mouse", "Monitor Stand", "Webcam", "Laptop Sleeve"),
    "Lighting": ("Desk Lamp", "Floor Lamp", "String Lights", "Candle Holder", "Night Light"),
    "Furniture": ("Bookshelf", "Stool", "Side Table", "Armchair", "Coat Rack"),
    "Beauty": ("Hand Cream", "Shampoo Bar", "Lip Balm", "Face Mask", "Perfume"),
    "Groceries": ("Olive Oil", "Green Tea", "Dark Chocolate", "Honey", "Coffee Beans"),
    "Pets": ("Dog Bed", "Cat Tree", "Leash", "Aquarium", "Chew Toy"),
    "Stationery": ("Notebook", "Fountain Pen", "Calendar", "Sketch Pad", "Desk Organiser"),
    "Tools": ("Screwdriver Set", "Toolbox", "Drill", "Tape Measure", "Workbench"),
}

MAKERS = (
    "Aldern", "Birkhaus", "Corvid", "Dunmore", "Elmstead", "Fennick", "Greyling", "Halden", "Istra",
    "Juniper", "Kestrel", "Lowell", "Marlow", "Northey", "Oakvale", "Pellworm", "Quayside", "Rowan",
    "Sandvik", "Tamsin",
)  # fmt: skip
STYLES = (
    "Classic", "Compact", "Everyday", "Foldable", "Handmade", "Heritage", "Light", "Mini", "Modern",
    "Natural", "Nordic", "Original", "Portable", "Quiet", "Rustic", "Seaside", "Slim", "Solid",
    "Travel", "Urban",
)  # fmt: skip


def titles(kinds: np.ndarray, rng: np.random.Generator) -> list[str]:
    """One name per item, distinct within its kind; a name says nothing about quality.

    Args:
        kinds: (N,) name of each item's kind.
        rng: draws makers and styles.
    """
    names = [""] * len(kinds)
    combinations = len(MAKERS) * len(STYLES)
    for kind in np.unique(kinds):
        places = np.flatnonzero(kinds == kind)
        drawn = rng.permutation(combinations)
        for count, place in enumerate(places):
            round_, combination = divmod(count, combinations)
            maker, style = divmod(int(drawn[combination]), len(STYLES))
            series = f" {round_ + 1}" if round_ else ""
            names[place] = f"{MAKERS[maker]} {STYLES[style]} {kind}{series}"
    return names
