"""What several renderers share: safe text, views of a record, drawings."""
