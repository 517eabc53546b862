"""A folder of results as one page that stands alone, and as tables for papers and spreadsheets."""
