"""What a model has memorised: canaries, passages and identifiers of its training text, asked for and counted.

rows.py           ids of which the last are to come back, scored by a model without anything around them
shares.py         pure: counts with their intervals
canaries.py       ranks of planted texts among others that were never planted
passages.py       passages of the training text against what is held out
identifiers.py    personal identifiers behind the words before them
"""
