"""What the offline phase can minimise, one file per objective, found by its name (``offline.objective``)."""
