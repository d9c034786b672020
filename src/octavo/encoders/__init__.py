"""Whatever turns texts into vectors, into matrices of token vectors, or into sparse vectors, behind one interface each."""

from octavo.encoders.dense import Encoder
from octavo.encoders.late_chunks import late_chunks
from octavo.encoders.page_images import PageImage, pdf_pages
from octavo.encoders.sparse import SparseEncoder
from octavo.encoders.tokens import TokenEncoder

__all__ = ["Encoder", "PageImage", "SparseEncoder", "TokenEncoder", "late_chunks", "pdf_pages"]
