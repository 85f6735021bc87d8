"""What a person looks at: pictures of which region answered which phrase, charts, and the report page.

`explain` makes an `Explanation` of one picture and one text; `overlay` draws it; `html` writes
`model.ReportData` as one self-contained HTML file. Each is imported where it is needed.
"""
