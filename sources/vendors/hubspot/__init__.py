"""HubSpot as a CRM: an account is a Company, a contact is a Contact."""
