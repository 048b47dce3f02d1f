"""What the providers of web services share: one transport, one set of errors, one way to retry."""
