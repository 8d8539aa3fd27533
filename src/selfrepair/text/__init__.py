"""Documents to windows: the text that goes through the model, with the document of every token."""

from selfrepair.text.cutting import windows, windows_of_documents
from selfrepair.text.document_sources import Document, read_documents
from selfrepair.text.windows import Windows

__all__ = ["Document", "Windows", "read_documents", "windows", "windows_of_documents"]
