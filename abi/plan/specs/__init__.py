"""What each rule's output depends on: one model per rule, and the sections of the scale that they are made of."""
