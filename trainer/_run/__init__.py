"""Parts of a run: where it is written (`folder`), its course from base to proof (`course`), processes as one (`together`)."""
