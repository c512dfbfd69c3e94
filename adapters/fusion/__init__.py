"""The in-house fusion model: text, image and audio."""
