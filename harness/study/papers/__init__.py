"""Studies of losses, one file each (`harness.study.paper`)."""
