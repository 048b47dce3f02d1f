"""
Azure Blob Storage, whoever uses it: the settings of an account and its container, what an
answer means, and the requests and listings that obstore has no call for.
"""
