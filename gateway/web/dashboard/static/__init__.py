"""The style sheets, the script and the icon of the pages. The folder is a package, so that the wheel contains it."""
