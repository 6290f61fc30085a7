"""The templates of the pages. The folder is a package, so that the wheel contains it."""
