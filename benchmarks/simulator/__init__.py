"""The service's scheduler, controller and sessions on a virtual clock and measured service times."""
