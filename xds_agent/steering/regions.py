"""Where the public regions of AWS, Google Cloud and Azure stand.

Data as of AS_OF. Source: the providers' public lists of regions, which name the place of each ("AWS Regions"
of the AWS documentation, "Regions and zones" of the Google Cloud documentation, `az account list-locations`
of Azure). Coordinates are those of the named city or metropolitan area, rounded to a tenth of a degree (about
10 km): enough to rank regions by distance, not to find a building. Where a provider names a state only
(Oregon, Virginia, Iowa), the town its data centres are known to be near. A region that is not here, or a data
centre of one's own, is given by `clouds.NAME.regions.NAME.latitude` and `longitude`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

AS_OF = "2025-09"

_AWS = """
af-south-1 -33.9 18.4 Cape Town
ap-east-1 22.3 114.2 Hong Kong
ap-east-2 25.0 121.5 Taipei
ap-northeast-1 35.7 139.7 Tokyo
ap-northeast-2 37.6 127.0 Seoul
ap-northeast-3 34.7 135.5 Osaka
ap-south-1 19.1 72.9 Mumbai
ap-south-2 17.4 78.5 Hyderabad
ap-southeast-1 1.3 103.8 Singapore
ap-southeast-2 -33.9 151.2 Sydney
ap-southeast-3 -6.2 106.8 Jakarta
ap-southeast-4 -37.8 145.0 Melbourne
ap-southeast-5 3.1 101.7 Malaysia
ap-southeast-6 -36.8 174.8 New Zealand
ap-southeast-7 13.8 100.5 Thailand
ca-central-1 45.5 -73.6 Montreal
ca-west-1 51.0 -114.1 Calgary
cn-north-1 39.9 116.4 Beijing
cn-northwest-1 37.5 105.2 Ningxia
eu-central-1 50.1 8.7 Frankfurt
eu-central-2 47.4 8.5 Zurich
eu-north-1 59.3 18.1 Stockholm
eu-south-1 45.5 9.2 Milan
eu-south-2 41.7 -0.9 Spain
eu-west-1 53.3 -6.3 Ireland
eu-west-2 51.5 -0.1 London
eu-west-3 48.9 2.4 Paris
il-central-1 32.1 34.8 Tel Aviv
me-central-1 25.2 55.3 United Arab Emirates
me-south-1 26.1 50.6 Bahrain
mx-central-1 20.6 -100.4 Mexico
sa-east-1 -23.6 -46.6 Sao Paulo
us-east-1 39.0 -77.5 Virginia
us-east-2 40.0 -83.0 Ohio
us-gov-east-1 40.0 -83.0 Ohio
us-gov-west-1 45.8 -119.7 Oregon
us-west-1 37.4 -121.9 California
us-west-2 45.8 -119.7 Oregon
"""
_GCP = """
africa-south1 -26.2 28.0 Johannesburg
asia-east1 24.1 120.5 Changhua County
asia-east2 22.3 114.2 Hong Kong
asia-northeast1 35.7 139.7 Tokyo
asia-northeast2 34.7 135.5 Osaka
asia-northeast3 37.6 127.0 Seoul
asia-south1 19.1 72.9 Mumbai
asia-south2 28.6 77.2 Delhi
asia-southeast1 1.3 103.7 Singapore
asia-southeast2 -6.2 106.8 Jakarta
australia-southeast1 -33.9 151.2 Sydney
australia-southeast2 -37.8 145.0 Melbourne
europe-central2 52.2 21.0 Warsaw
europe-north1 60.6 27.2 Hamina
europe-north2 59.3 18.1 Stockholm
europe-southwest1 40.4 -3.7 Madrid
europe-west1 50.5 3.8 St. Ghislain
europe-west10 52.5 13.4 Berlin
europe-west12 45.1 7.7 Turin
europe-west2 51.5 -0.1 London
europe-west3 50.1 8.7 Frankfurt
europe-west4 53.4 6.8 Eemshaven
europe-west6 47.4 8.5 Zurich
europe-west8 45.5 9.2 Milan
europe-west9 48.9 2.4 Paris
me-central1 25.3 51.5 Doha
me-central2 26.4 50.1 Dammam
me-west1 32.1 34.8 Tel Aviv
northamerica-northeast1 45.5 -73.6 Montreal
northamerica-northeast2 43.7 -79.4 Toronto
northamerica-south1 20.6 -100.4 Queretaro
southamerica-east1 -23.5 -46.8 Osasco
southamerica-west1 -33.4 -70.7 Santiago
us-central1 41.3 -95.9 Council Bluffs
us-east1 33.2 -80.0 Moncks Corner
us-east4 39.0 -77.5 Ashburn
us-east5 40.0 -83.0 Columbus
us-south1 32.8 -96.8 Dallas
us-west1 45.6 -121.2 The Dalles
us-west2 34.1 -118.2 Los Angeles
us-west3 40.8 -111.9 Salt Lake City
us-west4 36.2 -115.1 Las Vegas
"""
_AZURE = """
australiacentral -35.3 149.1 Canberra
australiacentral2 -35.3 149.1 Canberra
australiaeast -33.9 151.2 New South Wales
australiasoutheast -37.8 145.0 Victoria
austriaeast 48.2 16.4 Vienna
belgiumcentral 50.8 4.4 Brussels
brazilsouth -23.6 -46.6 Sao Paulo
brazilsoutheast -22.9 -43.2 Rio
canadacentral 43.7 -79.4 Toronto
canadaeast 46.8 -71.2 Quebec
centralindia 18.6 73.9 Pune
centralus 41.6 -93.6 Iowa
chilecentral -33.4 -70.7 Santiago
chinaeast 31.2 121.5 Shanghai
chinaeast2 31.2 121.5 Shanghai
chinaeast3 32.1 119.4 Jiangsu
chinanorth 39.9 116.4 Beijing
chinanorth2 39.9 116.4 Beijing
chinanorth3 40.8 114.9 Hebei
eastasia 22.3 114.2 Hong Kong
eastus 37.4 -79.8 Virginia
eastus2 36.7 -78.4 Virginia
francecentral 48.9 2.4 Paris
francesouth 43.3 5.4 Marseille
germanynorth 52.5 13.4 Berlin
germanywestcentral 50.1 8.7 Frankfurt
indonesiacentral -6.2 106.8 Jakarta
israelcentral 31.3 34.8 Israel
italynorth 45.5 9.2 Milan
japaneast 35.7 139.8 Tokyo
japanwest 34.7 135.5 Osaka
jioindiacentral 21.1 79.1 Nagpur
jioindiawest 22.5 70.1 Jamnagar
koreacentral 37.6 127.0 Seoul
koreasouth 35.2 129.1 Busan
malaysiawest 3.1 101.7 Kuala Lumpur
mexicocentral 20.6 -100.4 Queretaro
newzealandnorth -36.8 174.8 Auckland
northcentralus 41.9 -87.6 Illinois
northeurope 53.3 -6.3 Ireland
norwayeast 59.9 10.7 Oslo
norwaywest 59.0 5.7 Stavanger
polandcentral 52.2 21.0 Warsaw
qatarcentral 25.3 51.5 Doha
southafricanorth -25.7 28.2 Johannesburg
southafricawest -33.9 18.4 Cape Town
southcentralus 29.4 -98.5 Texas
southeastasia 1.3 103.8 Singapore
southindia 13.0 80.2 Chennai
spaincentral 40.4 -3.7 Madrid
swedencentral 60.7 17.1 Gavle
swedensouth 55.6 13.0 Malmo
switzerlandnorth 47.4 8.5 Zurich
switzerlandwest 46.2 6.1 Geneva
uaecentral 24.5 54.4 Abu Dhabi
uaenorth 25.3 55.3 Dubai
uksouth 51.5 -0.1 London
ukwest 51.5 -3.2 Cardiff
usdodcentral 41.6 -93.6 Iowa
usdodeast 36.7 -78.4 Virginia
usgovarizona 33.4 -112.1 Arizona
usgovtexas 29.4 -98.5 Texas
usgovvirginia 37.4 -79.8 Virginia
westcentralus 40.9 -110.2 Wyoming
westeurope 52.4 4.9 Netherlands
westindia 19.1 72.9 Mumbai
westus 37.8 -122.4 California
westus2 47.2 -119.9 Washington
westus3 33.4 -112.1 Phoenix
"""


def _read(table: str) -> dict[str, tuple[float, float]]:
    rows = (line.split(maxsplit=3) for line in table.split("\n") if line)
    return {name: (float(latitude), float(longitude)) for name, latitude, longitude, _ in rows}


REGIONS: Mapping[str, Mapping[str, tuple[float, float]]] = MappingProxyType(
    {"aws": _read(_AWS), "azure": _read(_AZURE), "gcp": _read(_GCP)}
)
"""Cloud -> region -> (degrees north, degrees east)."""
