"""Images, audio and flashcards: the families of media applications."""
