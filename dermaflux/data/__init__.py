"""Manifests of labelled images."""
