"""What plugins know of each dialect, one folder each, with the same file names in all of them.

`read*` takes a client's request apart, `demand` knows what a provider demands of a request, `walk` reads a reply,
`emit` writes one, `facts` counts. A dialect does not import another one, except within a family of them.
"""
