"""The pocket data: small scenes, questions and spoken digits that are generated, so that nothing has to be fetched.

`samples` makes the data set of them; `scenes` draws the pictures, `text` words the questions, `speech` plays the
digits, and `teaching` makes lessons of the train split for the models that are trained here.
"""
