"""An Inventory and a condition come in, a Plan goes out. Pure: no network, no disk, no clock."""
