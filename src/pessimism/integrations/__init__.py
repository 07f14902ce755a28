"""The instrument inside other people's training: one file per library. Imports nothing that the library has not."""
