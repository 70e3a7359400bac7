"""The laws, one module for each family; `registry` lists them all. README.md shows how to declare a new one."""
