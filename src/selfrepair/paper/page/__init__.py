"""The folder of a paper: figures, tables, numbers, and one page that shows them."""

from selfrepair.paper.page.paper_folder import FAILURES as FAILURES
from selfrepair.paper.page.paper_folder import Folder as Folder
from selfrepair.paper.page.paper_folder import heading as heading
from selfrepair.paper.page.paper_folder import reason as reason
from selfrepair.paper.page.paper_folder import render as render
from selfrepair.paper.page.paper_folder import write_paper as write_paper
