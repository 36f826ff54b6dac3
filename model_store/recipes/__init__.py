"""Programs that run once and exit: `python -m model_store.recipes.NAME`. Nothing imports them."""
