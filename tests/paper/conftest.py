from loading.fixtures import llama as llama
from loading.fixtures import saved as saved
from loading.fixtures import selfrepair as selfrepair
