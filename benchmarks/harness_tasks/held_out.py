"""What the task `held_out.yaml` reads of a text's file."""


def of_test(documents):
    """Return the documents that nothing was trained or chosen on."""
    return documents.filter(lambda document: document["split"] == "test")
