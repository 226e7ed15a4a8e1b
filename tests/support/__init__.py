"""What tests share: real services started fast, and builders of records."""
