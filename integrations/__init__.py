"""Where users already are: Purveyor's providers behind the interfaces of other libraries."""
