"""The release from the Hub to a folder: files, then archives unpacked safely."""
