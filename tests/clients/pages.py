"""Prints the code of a page: its blocks in LANGUAGE one after another, as a reader would type them in.

pages.py PAGE LANGUAGE ADDRESS: 127.0.0.1:8080 becomes ADDRESS.
"""

import re
import sys
from pathlib import Path

page, language, address = sys.argv[1:]
blocks = re.findall(rf"^```{language}\n(.*?)^```", Path(page).read_text(), re.DOTALL | re.MULTILINE)
assert blocks, f"{page} has no {language}"
print("\n".join(blocks).replace("127.0.0.1:8080", address))
