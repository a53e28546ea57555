"""What people read: tables, figures, pages, cards (no torch)."""
