"""mvai"""
