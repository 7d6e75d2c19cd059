"""Does correcting the least certain scans first save corrections?"""
