"""For the tests of those who build on Purveyor: conformance kits and loopback servers."""
