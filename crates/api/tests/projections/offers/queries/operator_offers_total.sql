select count(*) as offers from read.offers where tenant = :tenant
