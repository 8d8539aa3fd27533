"""The browser for tests of the audit page."""

from browsing import browser as browser
