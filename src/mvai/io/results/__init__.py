"""Results of other tools: what their files hold, whatever they are called.

`read_results` looks at the content of a file and gives one of the types of `mvai.io.results.data`;
nothing in a file is ever executed. docs/formats.md lists what is read.
"""
