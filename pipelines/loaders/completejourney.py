"""The Complete Journey: grocery purchases of 2,377 households over 2017 (a 5 % sample).

A basket is a session, and its purchases share one moment. `value` is the money paid for the line.
The catalogue is what the sample sold; the rest of the product table was never bought in it, so no
event could make it a right answer.

Department is too coarse for a category (GROCERY alone is most of the sales) and product_category
too fine (about 300, the limit is 64). So the most bought product categories stand for themselves,
and what is left falls back to its department.
"""

from pathlib import Path

import pandas as pd

from features.schema import OTHER, DatasetInfo
from pipelines.loaders.tables import Tables, public_file

OWN_CATEGORIES = 36
"""Product categories that stand for themselves; with at most 27 departments it fits in 64."""

INFO = DatasetInfo(name="completejourney", positive_types=("purchase",), seen_filter=False)
"""People buy the same milk again: no seen filter."""


def load(folder: Path) -> Tables:
    """Read transactions and products.

    Returns:
        Tables with 75,000 purchase events. An item's price is the median money per unit in the
        sample. Neither items nor households have dates of their own.

    Raises:
        ContractError: a file is missing.
    """
    sales = pd.read_parquet(public_file(folder, "transactions_sample.parquet"))
    products = pd.read_parquet(public_file(folder, "products.parquet"))
    events = pd.DataFrame(
        {
            "event_type": "purchase",
            "user_id": sales["household_id"],
            "item_id": sales["product_id"],
            "session_id": sales["basket_id"],
            "event_at": sales["transaction_timestamp"],
            "value": sales["sales_value"],
            "row": range(1, len(sales) + 1),
        }
    )
    return Tables(events, _items(sales, products), None, INFO)


def _items(sales: pd.DataFrame, products: pd.DataFrame) -> pd.DataFrame:
    bought = sales.groupby("product_id").size().rename("purchases").reset_index()
    items = bought.merge(products, on="product_id", how="left")
    department = items["department"].fillna(OTHER)
    fine = items["product_category"].fillna(department)
    units = sales[(sales["quantity"] > 0) & (sales["sales_value"] > 0)]
    unit_price = (units["sales_value"] / units["quantity"]).groupby(units["product_id"]).median()
    return pd.DataFrame(
        {
            "item_id": items["product_id"],
            "title": _titles(items, fine),
            "category": _categories(fine, department, items["purchases"]),
            "subcategory": items["product_type"].fillna(fine),
            "price": items["product_id"].map(unit_price).round(2),
        }
    )


def _categories(fine: pd.Series, department: pd.Series, purchases: pd.Series) -> pd.Series:
    sales = purchases.groupby(fine).sum().sort_index().sort_values(ascending=False, kind="stable")
    return fine.where(fine.isin(sales.index[:OWN_CATEGORIES]), department)


def _titles(items: pd.DataFrame, fine: pd.Series) -> pd.Series:
    """Type, size and whose brand: the source has no product names."""
    name = items["product_type"].fillna(fine).str.capitalize()
    size = (", " + items["package_size"].str.strip().str.lower()).fillna("")
    brand = items["brand"].map({"Private": " (store brand)", "National": ""}).astype(object)
    return name + size + brand.fillna("")
