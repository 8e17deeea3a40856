"""From files and Hub datasets to blocks of token ids, with every document and token accounted for."""
