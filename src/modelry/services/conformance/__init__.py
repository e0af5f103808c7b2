"""What a service does of the inference API, found out by calling it after a deployment.

`checks` names what is asked, over the small port of `caller`; `probing` says when, and `store`
keeps the latest report of each service.
"""
