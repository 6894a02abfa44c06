"""What there is to receive, keep and deliver: read from one TOML file, checked whole, turned into options.

In the order a file takes through it: ``load`` finds and reads it, ``positions`` knows where each key
stands, ``placeholders`` fills in variables, ``shape`` turns tables into the structs of ``schema``, ``check``
judges everything the text alone decides, ``secrets`` resolves references, and ``settings`` holds the
result: the lanes' own option classes. ``watch`` notices changes; ``describe`` writes the documents.
"""
