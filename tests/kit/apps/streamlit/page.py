"""A page of Streamlit's: something that is typed, a file that is given and taken."""

import hashlib

import streamlit

streamlit.title("hello from Streamlit")
name = streamlit.text_input("name")
if name:
    streamlit.write(f"typed: {name}")
given = streamlit.file_uploader("file")
if given is not None:
    held = given.getvalue()
    streamlit.write(f"sha256: {hashlib.sha256(held).hexdigest()}")
    streamlit.download_button("download", held, file_name="kept.bin")
