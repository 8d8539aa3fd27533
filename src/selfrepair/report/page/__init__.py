"""Results folders as one self-contained HTML page, down to the single token."""

from selfrepair.report.page.build import PageRun as PageRun
from selfrepair.report.page.build import missing as missing
from selfrepair.report.page.build import page_html as page_html
from selfrepair.report.page.build import write_page as write_page
from selfrepair.report.page.notebook import View as View
from selfrepair.report.page.notebook import view as view
