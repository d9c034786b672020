"""Drop-in stores and retrievers for LangChain and LlamaIndex, each in its own sub-package with its own extra."""
