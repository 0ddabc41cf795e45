"""The HTTP face: MailSlurp's operations and the control socket's, from one route table."""
